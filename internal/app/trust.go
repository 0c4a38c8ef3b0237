package app

import (
	"crypto/x509"
	"fmt"
	"os"
)

// trustedRoots returns the system's authorities and those of a PEM file, or nil
// (the system's alone) without a file.
func trustedRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading delivery.ca_file: %w", err)
	}
	roots, err := x509.SystemCertPool() // a copy
	if err != nil {
		return nil, fmt.Errorf("reading the system's certificate authorities: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading delivery.ca_file: %s holds no PEM certificate", file)
	}
	return roots, nil
}
