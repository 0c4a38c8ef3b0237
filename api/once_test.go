package api

import (
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
)

// remembered puts n requests of a tenant with keys of their own into the registry,
// as they were made at a time: always the same for the same n.
func (c *client) remembered(n int, tenant string, at time.Time) {
	c.t.Helper()
	s := &server{cfg: Config{IdempotencyKey: []byte("0123456789abcdef")}}
	value, err := json.Marshal(&onceRecord{At: at, ExpiresAt: at.Add(onceFor)})
	if err != nil {
		c.t.Fatal(err)
	}
	err = c.store.Update(c.t.Context(), func(tx Tx) error {
		for i := range n {
			if err := tx.PutRaw(KindOnce, tenant+"/"+s.derive("a test", fmt.Sprint(n), fmt.Sprint(i)), value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// counted counts the records that are looked at.
type counted struct {
	Tx
	looked int
}

func (c *counted) Records(kind, prefix, after string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for id, value := range c.Tx.Records(kind, prefix, after) {
			if c.looked++; !yield(id, value) {
				return
			}
		}
	}
}

func TestARequestWithAKeyLooksAtFewOfThoseThatThereAre(t *testing.T) {
	c := start(t)
	c.remembered(2000, "acme", time.Now())
	for _, tenant := range []string{"acmd", "acme0"} { // its neighbours in the registry
		c.remembered(100, tenant, time.Now().Add(-2*onceFor))
	}
	for _, id := range []string{"acme/2", "acme/m", "acme/zzzz"} {
		err := c.store.Update(t.Context(), func(tx Tx) error {
			look := &counted{Tx: tx}
			err := sweepOnce(look, "acme", id)
			if look.looked < onceLooked || look.looked > onceLooked+2 {
				t.Errorf("at %s: %d records were looked at, want %d", id, look.looked, onceLooked)
			}
			return err
		})
		if err != nil {
			t.Errorf("at %s: %v", id, err)
		}
	}
	if n := len(c.store.raw); n != 2200 {
		t.Errorf("%d of 2200 are left: nothing of the tenant was to go, and nothing of others", n)
	}
}

func TestRequestsWhoseDayIsOverGoWhereverTheyLie(t *testing.T) {
	c := start(t, onBelt(&belt{}, nil))
	ep := c.create(plainBody)
	c.remembered(100, "acme", time.Now().Add(-onceFor))
	for i := range 20 {
		c.do("POST", acme+"/"+ep.ID+"/test", "", "Idempotency-Key", fmt.Sprint(i)).want(http.StatusAccepted)
	}
	left := 0
	for range once.all(c.store, "acme/", "") {
		left++
	}
	if left != 20 {
		t.Errorf("%d are left, want the 20 of today", left)
	}
}

func TestATenantHasOnlySoManyRememberedRequests(t *testing.T) {
	c := start(t, onBelt(&belt{}, nil))
	ep := c.create(plainBody)
	test := func(key string) answer {
		return c.do("POST", acme+"/"+ep.ID+"/test", "", "Idempotency-Key", key)
	}
	test("before").want(http.StatusAccepted)
	// So many that chance has no say in it: the estimate is a sixth off or so.
	c.remembered(maxOnce/3, "acme", time.Now())
	test("few").want(http.StatusAccepted)
	c.remembered(2*maxOnce, "acme", time.Now().Add(-time.Minute))
	a := test("many").want(http.StatusTooManyRequests)
	if p := decode[Problem](a); p.Type != TypeLimitReached || !strings.Contains(p.Detail, fmt.Sprint(maxOnce)) || a.Header.Get("Retry-After") == "" {
		t.Errorf("%v %s", a.Header, a.body)
	}
	test("before").want(http.StatusAccepted) // a repeat needs no room
	c.do("POST", acme+"/"+ep.ID+"/test", "").want(http.StatusAccepted)
}

func TestThePlaceOfAnIDFollowsTheOrderOfItsBytes(t *testing.T) {
	for id, want := range map[string]float64{
		"22222222222222222222222222": 0, "32222222222222222222222222": 1. / 32, "a2222222222222222222222222": 6. / 32,
		"z7222222222222222222222222": 31./32 + 5./1024, "zzzzzzzzzzzzzzzzzzzzzzzzzz": 1,
	} {
		if got := placeOf(id); math.Abs(got-want) > 1e-12 {
			t.Errorf("%s lies at %v, want %v", id, got, want)
		}
	}
}
