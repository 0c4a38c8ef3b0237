package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"regexp"
	"testing"
)

var update = flag.Bool("update", false, "write openapi.json anew")

func TestTheCheckedInDocumentIsTheOneServed(t *testing.T) {
	want, err := OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	checkedIn, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(checkedIn, want) {
		t.Error("openapi.json is not what the code says; write it anew with: go generate ./api")
	}
	a := start(t).do("GET", "/openapi.json", "").want(http.StatusOK)
	if a.body != string(want) || a.Header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("served as %s, %d bytes, want %d", a.Header.Get("Content-Type"), len(a.body), len(want))
	}
}

type document struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string
		Parameters  []struct{ Name, In string }
		Responses   map[string]struct{ Content map[string]any }
	}
}

func TestTheDocumentDescribesEveryRouteWhole(t *testing.T) {
	b, err := OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc document
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI[:4] != "3.1." || len(doc.Paths) < 5 {
		t.Errorf("OpenAPI %s with %d paths", doc.OpenAPI, len(doc.Paths))
	}
	placeholder := regexp.MustCompile(`\{(\w+)\}`)
	for path, methods := range doc.Paths {
		for method, op := range methods {
			declared := map[string]bool{}
			for _, p := range op.Parameters {
				declared[p.In+" "+p.Name] = true
			}
			want := []string{}
			for _, m := range placeholder.FindAllStringSubmatch(path, -1) {
				want = append(want, "path "+m[1])
			}
			switch op.OperationID {
			case "createEndpoint", "rotateSecret":
				want = append(want, "header Idempotency-Key")
			case "updateEndpoint", "deleteEndpoint", "revokeSecret":
				want = append(want, "header If-Match")
			case "listEndpoints":
				want = append(want, "query limit", "query cursor")
			}
			for _, name := range want {
				if !declared[name] {
					t.Errorf("%s %s doesn't declare %s", method, path, name)
				}
			}
			for status, r := range op.Responses {
				if status[0] != '2' && r.Content["application/problem+json"] == nil {
					t.Errorf("%s %s: %s is not a Problem", method, path, status)
				}
			}
		}
	}
}
