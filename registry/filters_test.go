package registry

import (
	"encoding/json"
	"strings"
	"testing"

	"posthorn/registry/match"
)

func TestAFilterIsKeptOnceForAllThatHaveItAndDroppedWithTheLast(t *testing.T) {
	s := NewStore()
	apply := func(i int, filter string) {
		t.Helper()
		ep := endpoint(i)
		ep.Filter = filter
		value, err := json.Marshal(ep)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Apply([]byte(Key(KindEndpoint, ep.ID)), value); err != nil {
			t.Fatal(err)
		}
	}
	const one, other = `data.n > 1`, `data.n > 2`
	apply(0, one)
	apply(1, one)
	apply(2, "")
	found := s.Lookup(nil, "acme", "order.created")
	if len(found) != 3 || found[0].Filter == nil || found[0].Filter != found[1].Filter || found[2].Filter != nil {
		t.Fatalf("found %+v", found)
	}
	apply(1, other)
	apply(1, other) // replaced by itself
	if len(s.filters) != 2 || s.filters[one].users != 1 || s.filters[other].users != 1 {
		t.Errorf("kept %v", s.filters)
	}
	if ep, _ := s.Get(endpoint(1).ID); ep.Filter != other {
		t.Errorf("filter %q", ep.Filter)
	}
	apply(1, "")
	if err := s.Apply([]byte(Key(KindEndpoint, endpoint(0).ID)), nil); err != nil {
		t.Fatal(err)
	}
	if len(s.filters) != 0 {
		t.Errorf("nobody has them, kept are %v", s.filters)
	}
}

func TestAFilterThatDoesNotCompileIsRefusedWithItsPosition(t *testing.T) {
	ep := endpoint(1)
	ep.Filter = "type == \"a\" &&\n nosuch"
	errs := ValidateEndpoint(ep, Policy{})
	if len(errs) != 1 || errs[0].Field != "filter" || !strings.HasPrefix(errs[0].Problem, "2:2: undeclared reference") {
		t.Errorf("%+v", errs)
	}
	ep.Filter = `type == "a"`
	if errs := ValidateEndpoint(ep, Policy{}); len(errs) != 0 {
		t.Errorf("%+v", errs)
	}
	// One that was registered all the same is kept, and matches nothing.
	s := NewStore()
	ep.Filter = "nosuch"
	value, _ := json.Marshal(ep)
	if err := s.Apply([]byte(Key(KindEndpoint, ep.ID)), value); err != nil {
		t.Fatal(err)
	}
	if found := s.Lookup([]*match.Endpoint{}, "acme", "order.created"); len(found) != 1 || found[0].Filter.Source() != "nosuch" {
		t.Errorf("found %+v", found)
	}
}
