package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"posthorn/internal/config"
	"posthorn/internal/topics"
	"posthorn/registry"
	"posthorn/webhook"
)

// ErrSecretsUnopened says that "keyset reencrypt" met secrets that no key of the
// keyset opens.
var ErrSecretsUnopened = errors.New("some secrets can't be opened with this keyset")

// KeysetRotate gives a keyset file a new primary key, or with prepare only adds
// the key that the next rotation makes the primary one.
func KeysetRotate(path string, prepare bool, out io.Writer) error {
	if prepare {
		id, err := registry.PrepareKeysetFile(path)
		if err != nil {
			return err
		}
		return writef(out, "added key %d to %s; it opens, and seals nothing yet. Once every process has the file: posthorn keyset rotate\n", id, path)
	}
	id, err := registry.RotateKeysetFile(path)
	if err != nil {
		return err
	}
	return writef(out, "key %d of %s seals from now on, the others still open. Next: posthorn keyset reencrypt\n", id, path)
}

// KeysetReencrypt seals every secret in the registry anew that isn't sealed with
// the keyset's primary key, and says which keys are needed no longer.
func KeysetReencrypt(ctx context.Context, c *config.Config, out io.Writer) error {
	return withRegistry(ctx, c, func(k *registry.Keyset, store *registry.Store, w *registry.Writer) error {
		said := time.Now()
		result, err := registry.Reencrypt(ctx, store, w, k, audited(c, "reencryptKeyset"), func(done, all int) {
			if time.Since(said) >= time.Second {
				said = time.Now()
				_ = writef(out, "%d of %d endpoints\n", done, all)
			}
		})
		if err != nil {
			return err
		}
		if err := writef(out, "sealed %d secrets of %d endpoints anew, with key %d\n", result.Secrets, result.Endpoints, k.Primary()); err != nil {
			return err
		}
		if unused := k.Unused(result.Use.Has); len(unused) > 0 {
			if err := writef(out, "not used any more: %v; posthorn keyset prune removes them\n", unused); err != nil {
				return err
			}
		}
		for _, id := range result.Failed {
			if err := writef(out, "a secret of %s can't be opened\n", id); err != nil {
				return err
			}
		}
		if len(result.Failed) > 0 {
			return ErrSecretsUnopened
		}
		return nil
	})
}

// audited writes an entry into the audit log for each endpoint that a command
// has changed in the registry.
func audited(c *config.Config, operation string) func(tx *registry.Tx, ids []string) error {
	topic := topics.Name(c.Prefix, topics.RoleAudit)
	return func(tx *registry.Tx, ids []string) error {
		for _, id := range ids {
			ep, ok := tx.Get(id)
			if !ok {
				continue
			}
			entry, err := json.Marshal(webhook.AuditEntry{V: webhook.AuditVersion, At: tx.Now(), Actor: "cli", Operation: operation,
				Tenant: ep.Tenant, Kind: registry.KindEndpoint, ID: id, Fields: []string{"secrets"}})
			if err != nil {
				return fmt.Errorf("encoding an audit entry: %w", err)
			}
			if err := tx.Append(topic, []byte(ep.Tenant), entry); err != nil {
				return err
			}
		}
		return nil
	}
}

// KeysetPrune removes the older keys that no secret in the registry is sealed
// with from the keyset file.
func KeysetPrune(ctx context.Context, c *config.Config, out io.Writer) error {
	return withRegistry(ctx, c, func(_ *registry.Keyset, store *registry.Store, _ *registry.Writer) error {
		use := store.KeyUse()
		removed, err := registry.PruneKeysetFile(c.Registry.KeysetFile, use.Has)
		if err != nil {
			return err
		}
		if len(removed) == 0 {
			return writef(out, "nothing to remove: secrets are sealed with the keys %v\n", use.IDs())
		}
		return writef(out, "removed %v\n", removed)
	})
}

// withRegistry reads the registry to its end and runs f with what changes it.
func withRegistry(ctx context.Context, c *config.Config, f func(*registry.Keyset, *registry.Store, *registry.Writer) error) (err error) {
	if c.Registry.KeysetFile == "" {
		return usagef("registry.keyset_file is not configured")
	}
	keyset, err := registry.OpenKeyset(c.Registry.KeysetFile)
	if err != nil {
		return err
	}
	opts, err := topics.ClientOptions(c.Kafka)
	if err != nil {
		return fmt.Errorf("connecting to Kafka: %w", err)
	}
	cl, err := connect(ctx, c.Kafka)
	if err != nil {
		return err
	}
	cl.Close()
	topic := topics.Name(c.Prefix, topics.RoleRegistry)
	quiet := slog.New(slog.DiscardHandler) // what matters is returned
	follower, err := registry.NewFollower(registry.FollowerConfig{Topic: topic, Opts: opts, Logger: quiet})
	if err != nil {
		return err
	}
	following, stop := context.WithCancel(ctx)
	defer func() { stop(); follower.Wait() }()
	if err := follower.Start(following); err != nil {
		return fmt.Errorf("reading the registry: %w", err)
	}
	writer, err := registry.NewWriter(registry.WriterConfig{Topic: topic, Opts: opts, Follower: follower, Logger: quiet})
	if err != nil {
		return err
	}
	defer writer.Close()
	return f(keyset, follower.Store(), writer)
}
