package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

var (
	durationType    = reflect.TypeFor[time.Duration]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// field is one key of a section.
type field struct {
	key   string
	index int
}

// fieldsOf lists the keys of a section in the order of its struct.
func fieldsOf(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" {
			fs = append(fs, field{key, i})
		}
	}
	return fs
}

// isScalar reports whether a value of that type is written as one plain value.
func isScalar(t reflect.Type) bool {
	return t == durationType || reflect.PointerTo(t).Implements(unmarshalerType) ||
		(t.Kind() != reflect.Struct && t.Kind() != reflect.Slice)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// setScalar parses text into v. Its errors say what would be right.
func setScalar(v reflect.Value, text string) error {
	if v.Type() == durationType {
		d, err := ParseDuration(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(d))
		return nil
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "netip."))
		}
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b := text == "true"
		if !b && text != "false" {
			return fmt.Errorf("want true or false, got %q", text)
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("want a whole number, got %q", text)
		}
		v.SetInt(n)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("want a number such as 0.5, got %q", text)
		}
		v.SetFloat(f)
	default:
		panic("config: a field has a type that the schema doesn't know: " + v.Type().String())
	}
	return nil
}

// nearest returns the key that was most likely meant, or "".
func nearest(key string, fs []field) string {
	best, least := "", 3
	for _, f := range fs {
		if d := distance(key, f.key); d < least && d < len(f.key) {
			best, least = f.key, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two keys.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
