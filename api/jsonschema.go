package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// checkSchema says what is wrong with a JSON Schema (of any draft that its
// $schema names, 2020-12 by default) and with examples that should meet it. A
// schema is whole in itself: what it refers to elsewhere is never fetched.
func checkSchema(schema json.RawMessage, examples []json.RawMessage) (errs []FieldError) {
	var compiled *jsonschema.Schema
	if len(schema) > 0 {
		var err error
		if compiled, err = compile(schema); err != nil {
			return []FieldError{{"schema", "it is not a valid JSON Schema: " + schemaProblem(err)}}
		}
	}
	for i, text := range examples {
		field := fmt.Sprintf("examples[%d]", i)
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			errs = append(errs, FieldError{field, "it can't be read as JSON"})
			continue
		}
		if compiled == nil {
			continue
		}
		if err := compiled.Validate(value); err != nil {
			errs = append(errs, FieldError{field, "it doesn't meet the schema: " + schemaProblem(err)})
		}
	}
	return errs
}

func compile(schema json.RawMessage) (*jsonschema.Schema, error) {
	const name = "schema.json"
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if err := c.AddResource(name, doc); err != nil {
		return nil, err
	}
	return c.Compile(name)
}

type noLoader struct{}

var errElsewhere = errors.New("schemas elsewhere are not fetched; use $defs")

// Load implements [jsonschema.URLLoader].
func (noLoader) Load(string) (any, error) { return nil, errElsewhere }

// schemaProblem says where the first mistake is. The library's own words quote
// values, and what they hold is not for an answer.
func schemaProblem(err error) string {
	if invalid, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		for len(invalid.Causes) > 0 {
			invalid = invalid.Causes[0]
		}
		at := "/" + strings.Join(invalid.InstanceLocation, "/")
		return fmt.Sprintf("look at %.200q, rule %.100q", at, strings.Join(invalid.ErrorKind.KeywordPath(), "/"))
	}
	if schema, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok && schema.Err != nil {
		return schemaProblem(schema.Err)
	}
	if errors.Is(err, errElsewhere) {
		return errElsewhere.Error()
	}
	return "look at its references and regular expressions"
}
