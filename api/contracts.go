package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Contract is what the platform promises about deliveries under a contract.
type Contract struct {
	_               struct{}        `additionalProperties:"true"`
	Name            string          `json:"name" example:"standard"`
	Description     string          `json:"description"`
	Body            string          `json:"body" doc:"data: the event's data as it came; cloudevents: a CloudEvent in JSON; object: the fields that are listed"`
	Fields          []string        `json:"fields,omitempty" doc:"Of an object, in their order"`
	Headers         []string        `json:"headers" doc:"Set by the contract besides those of the signature; an endpoint's own can't have these names"`
	Signature       string          `json:"signature" doc:"standard: Standard Webhooks; t-v1: t=<Unix seconds>,v1=<hexadecimal HMAC-SHA256 of t, a dot and the body>"`
	SignatureHeader []string        `json:"signature_headers"`
	SecretPrefix    string          `json:"secret_prefix" doc:"What signing secrets begin with; may be empty"`
	RotationOverlap string          `json:"rotation_overlap" doc:"How long a replaced secret goes on signing" example:"24h0m0s"`
	Timeout         string          `json:"timeout" doc:"Of one attempt, up to the status line" example:"15s"`
	HTTPSOnly       bool            `json:"https_only"`
	Schedule        []string        `json:"schedule" doc:"Waits before each further attempt; empty for a single attempt"`
	Immediate       *ImmediateRetry `json:"immediate,omitempty" doc:"Retries in process, in place of a schedule"`
	Permanent       []string        `json:"permanent" doc:"Statuses that are not retried, such as 410 or 400-428"`
}

// ImmediateRetry says how a delivery is retried in process.
type ImmediateRetry struct {
	Retries    int     `json:"retries"`
	Initial    string  `json:"initial" doc:"Mean wait before the first"`
	Multiplier float64 `json:"multiplier"`
	Jitter     float64 `json:"jitter" doc:"Each wait is its mean ± this fraction"`
	Within     string  `json:"within" doc:"No retry begins later after the first POST"`
}

// ContractParam is the path of a contract.
type ContractParam struct {
	Name string `path:"name" maxLength:"64" doc:"The contract's name" example:"standard"`
}

type contractsOutput struct{ Body Page[Contract] }

type contractOutput struct{ Body Contract }

func (s *server) registerContracts() {
	const tag = "contracts"
	all := map[string]any{metaAccess: accessAll}
	register(s, huma.Operation{
		OperationID: "listContracts", Method: http.MethodGet, Path: "/v1/contracts", Tags: []string{tag}, Metadata: all,
		Summary: "List the contracts", Description: "Those built in and those of contracts_dir. There are few: one page has all.",
		Responses: s.responses(nil),
	}, func(context.Context, *struct{}) (*contractsOutput, error) {
		return &contractsOutput{Page[Contract]{Items: s.cfg.Contracts.Describe()}}, nil
	})
	register(s, huma.Operation{
		OperationID: "getContract", Method: http.MethodGet, Path: "/v1/contracts/{name}", Tags: []string{tag}, Metadata: all,
		Summary: "Read a contract", Responses: s.responses(nil, http.StatusNotFound),
	}, func(_ context.Context, in *ContractParam) (*contractOutput, error) {
		for _, c := range s.cfg.Contracts.Describe() {
			if c.Name == in.Name {
				return &contractOutput{c}, nil
			}
		}
		return nil, newProblem(http.StatusNotFound, "There is no contract %.80q.", in.Name)
	})
}
