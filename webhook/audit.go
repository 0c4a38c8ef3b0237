package webhook

import "time"

// AuditVersion is the version of the audit record's form.
const AuditVersion = 1

// AuditEntry is one change: who made it, to what, when. The JSON form is a
// record of the topic "<prefix>.audit", whose key is the tenant. It names
// what changed and holds no value of it.
type AuditEntry struct {
	V  int       `json:"v"`
	At time.Time `json:"at"`
	// Actor is the ID of the API key, "config-<n>" for one of the
	// configuration, "anonymous" where none is asked for, "cli" for a command that
	// wrote to the registry itself, or "system".
	Actor string `json:"actor"`
	// Operation is the API's operation ID, such as "createEndpoint".
	Operation string `json:"operation"`
	// Tenant whose resource it is; empty for what is the platform's.
	Tenant string `json:"tenant,omitempty"`
	// Kind and ID name the resource: "endpoint", "ep_…".
	Kind string `json:"kind"`
	ID   string `json:"id"`
	// Fields are the names of those that were set or changed.
	Fields []string `json:"fields,omitempty"`
}
