package registry

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"time"
	"unique"

	"posthorn/registry/filter"
	"posthorn/registry/match"
	"posthorn/webhook"
)

// row is one endpoint in memory. As a [webhook.Endpoint] with its strings,
// slices and map it would take about 900 bytes and a dozen pointers for the
// garbage collector to follow; packed into one string it takes about a third,
// which is what a million of them needs.
type row struct {
	match.Endpoint
	tenant unique.Handle[string] // shared by the tenant's rows
	// packed begins with the ID, so that the ID needs no memory of its own;
	// the rest is in the order of pack.
	packed string
}

// pack encodes what a row doesn't hold elsewhere (ID, tenant, contract,
// filter, patterns and disabled are in the row and the index). It never leaves the
// process, so it carries no version.
func pack(ep *webhook.Endpoint) string {
	b := make([]byte, 0, 384)
	b = append(b, ep.ID...)
	b = appendText(b, ep.URL)
	b = appendText(b, ep.Description)
	b = binary.AppendUvarint(b, uint64(len(ep.Headers)))
	for _, name := range slices.Sorted(maps.Keys(ep.Headers)) {
		b = appendText(b, name)
		b = appendText(b, ep.Headers[name])
	}
	b = binary.AppendUvarint(b, uint64(len(ep.Secrets)))
	for _, s := range ep.Secrets {
		b = appendText(b, s.ID)
		b = appendText(b, string(s.Sealed))
		b = appendTime(b, s.CreatedAt)
		b = appendTime(b, s.ExpiresAt)
	}
	b = binary.AppendUvarint(b, math.Float64bits(ep.RateLimit))
	b = binary.AppendVarint(b, int64(ep.MaxInFlight))
	b = appendTime(b, ep.CreatedAt)
	b = appendTime(b, ep.UpdatedAt)
	b = binary.AppendVarint(b, ep.Version)
	return string(appendState(b, ep))
}

// What most endpoints never have takes one byte together.
const (
	hasPaused = 1 << iota
	hasOnDisable
	hasDisabled
	hasEnabled
	hasPurge
)

func appendState(b []byte, ep *webhook.Endpoint) []byte {
	var has byte
	set := func(bit byte, is bool) {
		if is {
			has |= bit
		}
	}
	set(hasPaused, ep.Paused)
	set(hasOnDisable, ep.OnDisable != "")
	set(hasDisabled, ep.DisabledReason != "" || !ep.DisabledAt.IsZero())
	set(hasEnabled, !ep.EnabledAt.IsZero())
	set(hasPurge, !ep.PurgeBefore.IsZero() || !ep.PurgedAt.IsZero())
	b = append(b, has)
	if has&hasOnDisable != 0 {
		b = appendText(b, string(ep.OnDisable))
	}
	if has&hasDisabled != 0 {
		b = appendTime(appendText(b, string(ep.DisabledReason)), ep.DisabledAt)
	}
	if has&hasEnabled != 0 {
		b = appendTime(b, ep.EnabledAt)
	}
	if has&hasPurge != 0 {
		b = appendTime(appendTime(b, ep.PurgeBefore), ep.PurgedAt)
	}
	return b
}

func (p *unpacker) state(ep *webhook.Endpoint) {
	has := (*p)[0]
	*p = (*p)[1:]
	ep.Paused = has&hasPaused != 0
	if has&hasOnDisable != 0 {
		ep.OnDisable = webhook.OnDisable(p.text())
	}
	if has&hasDisabled != 0 {
		ep.DisabledReason, ep.DisabledAt = webhook.DisabledReason(p.text()), p.time()
	}
	if has&hasEnabled != 0 {
		ep.EnabledAt = p.time()
	}
	if has&hasPurge != 0 {
		ep.PurgeBefore, ep.PurgedAt = p.time(), p.time()
	}
}

// unpack builds an endpoint that shares no memory that could be written to.
func (r *row) unpack() *webhook.Endpoint {
	p := unpacker(r.packed[len(r.ID):])
	ep := &webhook.Endpoint{
		ID: r.ID, Tenant: r.tenant.Value(), Contract: r.Contract,
		Events: r.Patterns(), Disabled: r.Disabled(),
		URL: p.text(), Description: p.text(),
	}
	if n := p.count(); n > 0 {
		ep.Headers = make(map[string]string, n)
		for range n {
			name := p.text()
			ep.Headers[name] = p.text()
		}
	}
	if n := p.count(); n > 0 {
		ep.Secrets = make([]webhook.SealedSecret, n)
		for i := range ep.Secrets {
			ep.Secrets[i] = webhook.SealedSecret{
				ID: p.text(), Sealed: []byte(p.text()), CreatedAt: p.time(), ExpiresAt: p.time(),
			}
		}
	}
	ep.RateLimit = math.Float64frombits(p.uint())
	ep.MaxInFlight = int(p.int())
	ep.CreatedAt, ep.UpdatedAt = p.time(), p.time()
	ep.Version = p.int()
	p.state(ep)
	if r.Filter != nil {
		ep.Filter = r.Filter.Source()
	}
	return ep
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime writes Unix seconds and nanoseconds: together they hold every
// time, the zero one too, where Unix nanoseconds end in the year 2262.
func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// unpacker reads what pack wrote in this very process: it can't be malformed.
type unpacker string

func (p *unpacker) uint() uint64 {
	var v uint64
	for i, shift := 0, 0; ; i, shift = i+1, shift+7 {
		c := (*p)[i]
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			*p = (*p)[i+1:]
			return v
		}
	}
}

func (p *unpacker) int() int64 {
	u := p.uint()
	return int64(u>>1) ^ -int64(u&1)
}

func (p *unpacker) count() int { return int(p.uint()) }

func (p *unpacker) text() string {
	n := p.count()
	s := (*p)[:n]
	*p = (*p)[n:]
	return string(s)
}

func (p *unpacker) time() time.Time {
	sec := p.int()
	return time.Unix(sec, int64(p.uint())).UTC()
}

// newRow packs an endpoint. The row keeps the contract's name as it is given.
func newRow(ep *webhook.Endpoint, packed, contract string, wants *filter.Program) *row {
	r := &row{tenant: unique.Make(ep.Tenant), packed: packed}
	r.ID = r.packed[:len(ep.ID)]
	r.Contract, r.Filter = contract, wants
	return r
}
