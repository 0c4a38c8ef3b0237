// Package tlsfiles makes a client's TLS configuration of the files that a
// configuration names.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"posthorn/internal/config"
)

// Config reads the files. path is where the section stands in the
// configuration, such as "kafka.tls", for errors.
func Config(path string, t config.TLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("reading %s.ca: %w", path, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading %s.ca: %s holds no PEM certificate", path, t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("reading %s.cert and key: %w", path, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
