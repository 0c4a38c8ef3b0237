package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"posthorn/api"
	"posthorn/internal/config"
	"posthorn/internal/topics"
	"posthorn/registry"
	"posthorn/webhook"
)

// BootstrapKey issues an administrator's API key by writing it to the registry,
// under its lock: whoever may write to that topic needs no key. It is how the
// first key comes to be. expires is zero for a key without end.
func BootstrapKey(ctx context.Context, cfg *config.Config, log *slog.Logger, description string, expires time.Time) (id, key string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	opts, err := clientOptions(cfg, nil)
	if err != nil {
		return "", "", err
	}
	topic := topics.Name(cfg.Prefix, topics.RoleRegistry)
	f, err := registry.NewFollower(registry.FollowerConfig{Topic: topic, Opts: opts, Logger: log})
	if err != nil {
		return "", "", err
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, stop)()
	defer func() { stop(); f.Wait() }()
	if err := f.Start(following); err != nil {
		return "", "", fmt.Errorf("reading the registry: %w", errors.Join(err, ctx.Err()))
	}
	w, err := registry.NewWriter(registry.WriterConfig{Topic: topic, Opts: opts, Follower: f, Logger: log})
	if err != nil {
		return "", "", err
	}
	defer w.Close()

	k := &webhook.APIKey{ID: api.NewKeyID(), Description: description, ExpiresAt: expires}
	key = api.IssueKey(k)
	err = w.Update(ctx, func(tx *registry.Tx) error {
		k.Version, k.CreatedAt, k.UpdatedAt = 1, tx.Now(), tx.Now()
		value, err := json.Marshal(k)
		if err != nil {
			return err
		}
		if err := tx.PutRaw(api.KindKey, k.ID, value); err != nil {
			return err
		}
		return registryTx{Tx: tx, audit: topics.Name(cfg.Prefix, topics.RoleAudit)}.Audit(&webhook.AuditEntry{V: webhook.AuditVersion, At: tx.Now(),
			Actor: "cli", Operation: "bootstrapKey", Kind: api.KindKey, ID: k.ID})
	})
	if err != nil {
		return "", "", fmt.Errorf("issuing the key: %w", err)
	}
	return k.ID, key, nil
}
