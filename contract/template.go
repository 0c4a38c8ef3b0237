package contract

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"posthorn/webhook"
)

// getter reads one attribute of an event or a delivery; "" means that it has
// none.
type getter[T any] func(*T) string

// template is literal text with attributes in between.
type template[T any] []part[T]

type part[T any] struct {
	literal string
	name    string // of the placeholder, for messages
	get     getter[T]
}

// parseTemplate reads "text {placeholder} text"; "{{" and "}}" are braces.
func parseTemplate[T any](text string, lookup func(name string) (getter[T], error)) (template[T], error) {
	var t template[T]
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			t = append(t, part[T]{literal: literal.String()})
			literal.Reset()
		}
	}
	for text != "" {
		i := strings.IndexAny(text, "{}")
		if i < 0 {
			literal.WriteString(text)
			break
		}
		literal.WriteString(text[:i])
		brace, rest := text[i], text[i+1:]
		if rest != "" && rest[0] == brace {
			literal.WriteByte(brace)
			text = rest[1:]
			continue
		}
		name, after, closed := strings.Cut(rest, "}")
		if brace == '}' || !closed {
			return nil, fmt.Errorf("unpaired %q: write it twice if the brace itself is meant", brace)
		}
		get, err := lookup(name)
		if err != nil {
			return nil, err
		}
		flush()
		t = append(t, part[T]{name: name, get: get})
		text = after
	}
	flush()
	return t, nil
}

// expand fills the template in. The second result names the first placeholder
// that v has no value for, "" when all have one.
func (t template[T]) expand(v *T) (text, missing string) {
	if len(t) == 1 && t[0].get == nil {
		return t[0].literal, ""
	}
	for _, p := range t {
		if p.get == nil {
			text += p.literal
			continue
		}
		s := p.get(v)
		if s == "" {
			return "", p.name
		}
		text += s
	}
	return text, ""
}

// unknownName is the error for a name that isn't among the keys of known.
func unknownName[V any](name string, known map[string]V, more ...string) error {
	names := append(slices.Sorted(maps.Keys(known)), more...)
	return fmt.Errorf("unknown name %.60q: want one of %s", name, strings.Join(names, ", "))
}

// eventAttributes are the placeholders of bodies, besides extension.NAME.
var eventAttributes = map[string]getter[webhook.Event]{
	"id":      func(e *webhook.Event) string { return e.ID },
	"type":    func(e *webhook.Event) string { return e.Type },
	"source":  func(e *webhook.Event) string { return e.Source },
	"subject": func(e *webhook.Event) string { return e.Subject },
	"tenant":  func(e *webhook.Event) string { return e.Tenant },
}

// eventAttribute finds the getter of a placeholder of bodies.
func eventAttribute(name string) (getter[webhook.Event], error) {
	if extension, ok := strings.CutPrefix(name, "extension."); ok {
		if extension == "" || strings.Trim(extension, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return nil, fmt.Errorf("extension %.60q: want lower-case letters and digits (CloudEvents 1.0, attribute names)", extension)
		}
		return func(e *webhook.Event) string { return e.Extension(extension) }, nil
	}
	if get := eventAttributes[name]; get != nil {
		return get, nil
	}
	return nil, unknownName(name, eventAttributes, "extension.NAME")
}

// deliveryAttributes are the placeholders of headers.
var deliveryAttributes = map[string]getter[webhook.Delivery]{
	"delivery_id": func(d *webhook.Delivery) string { return d.ID },
	"endpoint_id": func(d *webhook.Delivery) string { return d.EndpointID },
	"attempt":     func(d *webhook.Delivery) string { return strconv.Itoa(d.N + 1) },
	"id":          func(d *webhook.Delivery) string { return d.EventID },
	"type":        func(d *webhook.Delivery) string { return d.EventType },
	"source":      func(d *webhook.Delivery) string { return d.EventSource },
	"tenant":      func(d *webhook.Delivery) string { return d.Tenant },
}

func deliveryAttribute(name string) (getter[webhook.Delivery], error) {
	if get := deliveryAttributes[name]; get != nil {
		return get, nil
	}
	return nil, unknownName(name, deliveryAttributes)
}
