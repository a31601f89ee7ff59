package main

import (
	"fmt"
	"net/url"
	"strings"
)

// A keyRef is a key reference, taken apart.
type keyRef struct {
	token, object string // labels
	id            string // CKA_ID as bytes; empty: any
	module        string // path; empty: the environment says
}

// parseRef reads the part of an RFC 7512 URI after its scheme; older clients leave pkcs11:// before it.
func parseRef(ref string) (keyRef, error) {
	var r keyRef
	path, query, _ := strings.Cut(strings.TrimPrefix(ref, "pkcs11://"), "?")
	if err := attributes(path, ";", map[string]*string{"token": &r.token, "object": &r.object, "id": &r.id}); err != nil {
		return keyRef{}, err
	}
	if err := attributes(query, "&", map[string]*string{"module-path": &r.module}); err != nil {
		return keyRef{}, err
	}
	if r.token == "" || r.object == "" {
		return keyRef{}, fmt.Errorf("key reference %.128q: want pkcs11://token=LABEL;object=LABEL", ref)
	}
	return r, nil
}

// attributes reads name=value pairs, each at most once; the values are percent-encoded.
func attributes(s, sep string, into map[string]*string) error {
	if s == "" {
		return nil
	}
	for _, pair := range strings.Split(s, sep) {
		name, value, _ := strings.Cut(pair, "=")
		to, ok := into[name]
		if !ok {
			return fmt.Errorf("key reference: attribute %.64q is not known here", name)
		}
		if *to != "" {
			return fmt.Errorf("key reference: attribute %q twice", name)
		}
		v, err := url.PathUnescape(value)
		if err != nil || v == "" {
			return fmt.Errorf("key reference: attribute %q: want a percent-encoded value", name)
		}
		*to = v
	}
	return nil
}
