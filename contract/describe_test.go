package contract

import (
	"slices"
	"testing"
)

func TestAnOutlineSaysWhatTheContractDoes(t *testing.T) {
	o := builtinContract(t, "bunjang").Outline()
	if o.Body != "object" || !slices.Equal(o.Fields, []string{"eventId", "eventType", "payloadVersion", "data"}) || o.Scheme != "t-v1" ||
		!slices.Equal(o.SignatureHeaders, []string{"X-Bun-Webhook-Signature"}) || o.SecretPrefix != "whsec_" ||
		!slices.Equal(o.Permanent, []string{"100-199", "300-428", "430-499"}) {
		t.Errorf("bunjang: %+v", o)
	}
	o = builtinContract(t, "standard").Outline()
	if o.Body != "data" || o.Scheme != "standard" || len(o.SignatureHeaders) != 3 || o.SecretPrefix != "whsec_" || !slices.Equal(o.Permanent, []string{"410"}) {
		t.Errorf("standard: %+v", o)
	}
	if o = builtinContract(t, "bunship").Outline(); !slices.Contains(o.Headers, "X-Webhook-Event") {
		t.Errorf("bunship: %+v", o)
	}
}
