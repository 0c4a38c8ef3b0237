package topics

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"posthorn/internal/config"
	"posthorn/internal/tlsfiles"
)

// ClientOptions says how a client reaches the cluster of a configuration:
// brokers, client ID, TLS and SASL. It reads the files that it names.
func ClientOptions(k config.Kafka) ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(k.Brokers...)}
	if k.ClientID != "" {
		opts = append(opts, kgo.ClientID(k.ClientID))
	}
	if k.TLS.Enabled {
		c, err := tlsfiles.Config("kafka.tls", k.TLS)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(c))
	}
	if k.SASL.Mechanism == config.SASLNone {
		return opts, nil
	}
	password, err := k.SASL.ReadPassword()
	if err != nil {
		return nil, err
	}
	switch k.SASL.Mechanism {
	case config.SASLPlain:
		return append(opts, kgo.SASL(plain.Auth{User: k.SASL.Username, Pass: password.Reveal()}.AsMechanism())), nil
	case config.SASLScram256:
		return append(opts, kgo.SASL(scram.Auth{User: k.SASL.Username, Pass: password.Reveal()}.AsSha256Mechanism())), nil
	case config.SASLScram512:
		return append(opts, kgo.SASL(scram.Auth{User: k.SASL.Username, Pass: password.Reveal()}.AsSha512Mechanism())), nil
	default:
		return nil, fmt.Errorf("kafka.sasl.mechanism: %q is unknown", k.SASL.Mechanism)
	}
}
