package source

// attributes are a CloudEvent's context attributes as they were given; an empty
// one counts as absent.
type attributes struct {
	specversion, id, typ, source, subject, time, contentType string

	// extensions are all others, "dataschema" among them.
	extensions map[string]string
}

// core returns where an attribute of the specification is kept and its limit.
func (a *attributes) core(name string) (*string, int) {
	switch name {
	case "specversion":
		return &a.specversion, 16
	case "id":
		return &a.id, maxID
	case "type":
		return &a.typ, maxType
	case "source":
		return &a.source, maxSource
	case "subject":
		return &a.subject, maxSubject
	case "time":
		return &a.time, maxTimeText
	case "datacontenttype":
		return &a.contentType, maxContentType
	}
	return nil, maxExtension
}

// get returns an attribute and whether it was given.
func (a *attributes) get(name string) (string, bool) {
	if p, _ := a.core(name); p != nil {
		return *p, *p != ""
	}
	v, ok := a.extensions[name]
	return v, ok
}

func (a *attributes) set(name, value string) *Invalid {
	p, limit := a.core(name)
	if why := checkText(value, limit); why != "" {
		return invalid(ReasonAttribute, "attribute %s %s", name, why)
	}
	if p != nil {
		*p = value
		return nil
	}
	if a.extensions == nil {
		a.extensions = make(map[string]string, 4)
	}
	a.extensions[name] = value
	if len(a.extensions) > maxExtensions {
		return invalid(ReasonAttribute, "more than %d extension attributes", maxExtensions)
	}
	return nil
}

// setJSON sets an attribute from a member of a structured event. null is as
// good as omitted (JSON format 1.0.2, section 2.2), and names that CloudEvents
// forbids are passed over, as no binding could carry them on.
func (a *attributes) setJSON(name string, raw []byte) *Invalid {
	if raw[0] == 'n' || !isAttributeName(name) {
		return nil
	}
	if p, _ := a.core(name); p != nil && raw[0] != '"' {
		return invalid(ReasonAttribute, "attribute %s has to be a string", name)
	}
	text, inv := scalar("attribute "+name, raw)
	if inv != nil {
		return inv
	}
	return a.set(name, text)
}
