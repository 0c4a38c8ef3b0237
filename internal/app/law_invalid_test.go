package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/config"
	"posthorn/webhook"
)

func without(r *kgo.Record, key string) *kgo.Record {
	var kept []kgo.RecordHeader
	for _, h := range r.Headers {
		if h.Key != key {
			kept = append(kept, h)
		}
	}
	r.Headers = kept
	return r
}

func TestWhatCantBeReadGoesToTheInvalidTopicAndThePartitionGoesOn(t *testing.T) {
	big := func(c *config.Config) {
		onePartition(c)
		c.Sources[0].Topics = []string{"orders", "big"}
	}
	inVirtualTime(t, big, func(w *world) {
		size := "8388608"
		if _, err := kadm.NewClient(w.client).CreateTopic(context.Background(), 1, 1, map[string]*string{"max.message.bytes": &size}, "big"); err != nil {
			t.Fatal(err)
		}
		w.receiver(8080, nil)
		w.endpoint("e")
		five := bytes.Repeat([]byte("5"), 5<<20)
		sum := sha256.Sum256(five)
		with := func(change func(*kgo.Record)) *kgo.Record {
			r := orderOf("bad", "order.created")
			change(r)
			return r
		}
		bad := []struct {
			reason string
			record *kgo.Record
		}{
			{"missing_type", without(orderOf("bad", "order.created"), "ce_type")},
			{"missing_tenant", without(orderOf("bad", "order.created"), "ce_tenant")},
			{"specversion", with(func(r *kgo.Record) { r.Headers[0].Value = []byte("9.9") })},
			{"json", with(func(r *kgo.Record) { r.Value = []byte(`{"open":`) })},
			{"utf8", with(func(r *kgo.Record) { r.Value = []byte("{\"a\":\"\xff\"}") })},
			{"empty", with(func(r *kgo.Record) { r.Value = nil })},
			{"oversize", with(func(r *kgo.Record) { r.Value = five; r.Topic = "big" })},
		}
		for i, b := range bad {
			b.record.Headers = append(b.record.Headers, kgo.RecordHeader{Key: "mine", Value: []byte(b.reason)})
			good := orderOf(fmt.Sprint("good", i), "order.created")
			good.Topic = b.record.Topic
			w.produce(b.record)
			w.produce(good)
		}
		p := w.process()
		time.Sleep(10 * time.Second)
		p.terminate()
		if n := len(w.received("/e")); n != len(bad) {
			t.Errorf("%d of the %d good events behind bad ones came", n, len(bad))
		}
		found := make(map[string]*kgo.Record)
		for _, r := range w.read("posthorn.invalid") {
			found[headersOf(r)["mine"]] = r
		}
		for _, b := range bad {
			r := found[b.reason]
			if r == nil {
				t.Errorf("%s: not in the invalid topic", b.reason)
				continue
			}
			h := headersOf(r)
			if h["posthorn_reason"] != b.reason || h["posthorn_detail"] == "" || string(r.Key) != "one partition" || h["posthorn_source"] == "" || h["ce_id"] != "bad" {
				t.Errorf("%s: key %q, headers %v", b.reason, r.Key, h)
			}
			want := b.record.Value
			if b.reason == "oversize" {
				want = five[:64<<10]
				if h["posthorn_length"] != "5242880" || h["posthorn_sha256"] != hex.EncodeToString(sum[:]) {
					t.Errorf("5 MiB: length %q, digest %q", h["posthorn_length"], h["posthorn_sha256"])
				}
			}
			if !bytes.Equal(r.Value, want) || (r.Value == nil) != (want == nil) {
				t.Errorf("%s: a value of %d bytes, want %d", b.reason, len(r.Value), len(want))
			}
		}
	})
}

func TestARecordOnOurOwnTopicsThatIsntOursIsMovedAside(t *testing.T) {
	inVirtualTime(t, onePartition, func(w *world) {
		w.receiver(8080, nil)
		w.endpoint("e")
		topics := []string{"posthorn.deliveries", "posthorn.fanout", "posthorn.retry.5s", "posthorn.retry.1m"}
		for _, topic := range topics {
			w.produce(&kgo.Record{Topic: topic, Key: []byte("ep_e"), Value: []byte(topic), Headers: []kgo.RecordHeader{
				{Key: "v", Value: []byte("1")}, {Key: "n", Value: []byte("-\xff")}, {Key: "delivery", Value: nil}}})
			w.produce(&kgo.Record{Topic: topic, Value: []byte(topic)})
		}
		p := w.process()
		time.Sleep(time.Second)
		w.event("good", "order.created")
		d := webhook.Delivery{ID: webhook.DeliveryID("t", "t", "ep_e"), EventID: "t", EndpointID: "ep_e", Contract: "standard",
			BegunAt: time.Now(), MatchedAt: time.Now(), NotBefore: time.Now().Add(time.Minute), Body: []byte("due")}
		w.produce(&kgo.Record{Topic: "posthorn.retry.1m", Key: []byte("ep_e"), Value: d.Body, Headers: webhook.HeadersAs[kgo.RecordHeader](d.AppendHeaders(nil))})
		time.Sleep(2 * time.Minute)
		if n := len(w.received("/e")); n != 2 {
			t.Errorf("%d POSTs, want those of the event and of the retry behind the garbage", n)
		}
		got := make(map[string]int)
		for _, r := range w.read("posthorn.invalid") {
			if h := headersOf(r); h["posthorn_reason"] != "malformed" || h["posthorn_detail"] == "" {
				t.Errorf("headers %v", h)
			}
			got[string(r.Value)]++
		}
		for _, topic := range topics {
			if got[topic] != 2 {
				t.Errorf("%d of %s are in the invalid topic, want 2", got[topic], topic)
			}
		}
		p.terminate()
		for _, group := range []string{"posthorn.dispatch", "posthorn.retry.5s", "posthorn.retry.1m", "posthorn.fanout"} {
			for _, c := range w.commits(group) {
				if c.At < 2 {
					t.Errorf("%s stands at %d", group, c.At)
				}
			}
		}
	})
}

func TestAContractThatCantBuildABodyRejectsTheEventForItselfAlone(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, nil)
		w.endpoint("standard")
		w.subscriber("bunship", "bunship")
		r := orderOf("text", "order.created")
		without(r, "content-type")
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "content-type", Value: []byte("application/octet-stream")})
		r.Value = []byte{0xff, 0xfe, 0x00}
		w.produce(r)
		w.event("json", "order.created")
		p := w.process()
		time.Sleep(10 * time.Second)
		p.terminate()
		if n := len(w.received("/standard")); n != 2 {
			t.Errorf("%d of 2 events came by the contract that takes any bytes", n)
		}
		if n := len(w.received("/bunship")); n != 1 {
			t.Errorf("%d came by the contract that needs JSON, want the one that is", n)
		}
		invalid := w.read("posthorn.invalid")
		if len(invalid) != 1 || headersOf(invalid[0])["posthorn_reason"] != "contract" || !bytes.Equal(invalid[0].Value, r.Value) {
			t.Errorf("invalid: %v", invalid)
		}
	})
}
