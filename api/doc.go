// Package api is the REST admin API, by which a platform manages its
// tenants and their endpoints:
//
//	/v1/tenants/{tenant}/endpoints[/{id}[/secrets[/{secret}] | /backlog | /test]]
//	/v1/tenants/{tenant}/deliveries[/{id}[/attempts | /resend]]
//	/v1/tenants/{tenant}/replays[/{id}[/pause | /resume | /cancel]]
//	/v1/tenants/{tenant}/dry-run
//	/v1/tenants[/{tenant}[/audit]], /v1/endpoints
//	/v1/event-types[/{name}], /v1/contracts[/{name}]
//	/v1/keys[/{id}], /v1/whoami, /v1/audit
//	/openapi.json
//
// [New] makes the handler, [OpenAPI] the document that describes it (OpenAPI
// 3.1; openapi.json beside this file is the same and tested to be).
//
// The rules that hold on every route, and where they are kept:
//
//   - Every error is a [Problem] (RFC 9457), and one that is the request's
//     fault names each field. None quotes a value of the body: a signing
//     secret may be among them (problem.go).
//   - What is wrong with a request's content is a 400, whether a schema or a
//     rule found it; a 422 is an Idempotency-Key that was used for another
//     body (problem.go, idempotency.go).
//   - A change is checked and written under the registry's lock, in one
//     [Writer.Update]: limits, If-Match and repeats are exact also with
//     several processes (endpoints.go).
//   - A signing secret is in one response, that of the create or rotation which
//     generated it. It is sealed before it leaves the handler (endpoints.go,
//     secrets.go).
//   - Every operation says which keys may call it: those of the tenant in its
//     path, administrators', or all (access.go). Who calls is found out before
//     the body is read, whether they may before anything is looked at.
//   - A change goes through server.update and writes its audit entry in its own
//     transaction; one that has none fails (change.go).
//   - Lists have a limit and a cursor (page.go), records of the registry that
//     are no endpoints a table (records.go).
//   - A browser can't be made to call it: requests of other origins, bodies
//     that aren't declared as JSON and, by [Config].RestrictHosts, foreign
//     hosts are refused (browser.go).
//   - Bodies have at most 64 KiB and arrive within 5 seconds; a request is
//     given up after [Config].RequestTimeout (serve.go).
package api

//go:generate go test -run TestTheCheckedInDocumentIsTheOneServed -update
