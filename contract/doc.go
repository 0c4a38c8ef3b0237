// Package contract says how a delivery looks on the wire: the body that is
// built from an event, the headers and signature of each attempt, the format
// of signing secrets, and the policy that a platform promised its receivers
// (timeout, which answers are retried and when, rotation overlap).
//
// A contract is declared in YAML, not coded; [Load] reads one and [Builtin]
// holds the four that ship: standard, bunship, bunjang and bigcommerce. The
// top of a contract file:
//
//	description: text for people
//	body: {form: data | cloudevents | object, fields: [...]}
//	signature: {scheme: standard | t-v1, header: NAME (t-v1 alone)}
//	headers: {NAME: template, ...}
//	secret: {format: standard | hex | text, ...}
//	timeout: 15s
//	https_only: false
//	min_tls: "1.2"
//	retry: {on: [...], except: [...], gone: [...], schedule: [...], immediate: {...}}
//
// Each field of an object body is a mapping, with one of four values:
//
//	{name: N, from: ATTRIBUTE or [ATTRIBUTE, ...]} the first that the event has
//	{name: N, from: time, format: rfc3339ms | unix}
//	{name: N, from: data}                          byte for byte, null without data
//	{name: N, template: "stores/{tenant}"}
//	{name: N, const: text, whole number or boolean}
//	{name: N, sha1: [FIELD, ...]}                  hex, of their canonical JSON
//
// A text that the event lacks is an error unless the field has a default: TEXT
// or is optional: true, which leaves it out.
//
// retry.on (all by default) less retry.except is what is retried: statuses,
// classes such as 5xx, and "network" for no answer. retry.gone disables the
// endpoint. Without retry.schedule the line's default holds.
//
// Templates hold placeholders in braces; a doubled brace is a brace. Bodies
// know {id}, {type}, {source}, {subject}, {tenant} and {extension.NAME} of the
// event; headers know {delivery_id}, {endpoint_id}, {attempt} (from 1), {id},
// {type}, {source} and {tenant} of the delivery.
//
// What the package does is a pure function of its arguments, but for
// [Contract.GenerateSecret]. Contracts are immutable and safe for concurrent
// use.
package contract
