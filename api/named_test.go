package api

import (
	"net/http"
	"testing"
)

func TestAKeyThatMadeATenantOrAnEventTypeMakesNoOther(t *testing.T) {
	for path, bodies := range map[string][3]string{
		"/v1/tenants":  {`{"id":"acme"}`, `{"id":"acme","description":"x"}`, `{"id":"globex"}`},
		eventTypesPath: {`{"name":"order.paid"}`, `{"name":"order.paid","description":"x"}`, `{"name":"order.shipped"}`},
	} {
		c := start(t)
		c.do("POST", path, bodies[0], "Idempotency-Key", "k").want(http.StatusCreated)
		for _, other := range bodies[1:] {
			a := c.do("POST", path, other, "Idempotency-Key", "k").want(http.StatusUnprocessableEntity)
			if p := decode[Problem](a); p.Type != TypeKeyReused {
				t.Errorf("%s of %s: %+v", other, path, p)
			}
		}
		c.do("POST", path, bodies[0], "Idempotency-Key", "k").want(http.StatusOK)
		c.do("POST", path, bodies[2], "Idempotency-Key", "k2").want(http.StatusCreated)
	}
}
