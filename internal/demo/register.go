package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"posthorn/api"
)

// register registers the sample endpoints over the HTTP API, at the receiver,
// and keeps the secrets that it answers with. It returns when the line sees them
// all and is ready.
func register(ctx context.Context, admin string, at *receiver) ([]*endpoint, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	endpoints := sampleEndpoints()
	for _, e := range endpoints {
		e.url = at.url(e)
		body, err := json.Marshal(api.EndpointCreate{
			URL: e.url, Events: e.events, Contract: e.contract, Headers: e.headers, Description: "demo: " + e.name,
		})
		if err != nil {
			return nil, fmt.Errorf("registering endpoint %s: %w", e.name, err)
		}
		var created api.CreatedEndpoint
		if err := call(ctx, client, http.MethodPost, endpointsURL(admin, e.tenant), body, &created); err != nil {
			return nil, fmt.Errorf("registering endpoint %s: %w", e.name, err)
		}
		if e.id, e.secret = created.ID, created.Secret; e.id == "" || e.secret == "" {
			return nil, fmt.Errorf("registering endpoint %s: the API's answer has no ID or no secret", e.name)
		}
	}
	for _, e := range endpoints {
		// The API reads the tables that matching reads: an event that is sent
		// after it knows the endpoint is matched to it.
		if err := waitFor(ctx, client, endpointsURL(admin, e.tenant)+"/"+e.id); err != nil {
			return nil, fmt.Errorf("waiting for endpoint %s: %w", e.name, err)
		}
	}
	// Before the stages own their partitions a delivery would wait for them, and
	// its latency be that of starting.
	if err := waitFor(ctx, client, admin+"/readyz"); err != nil {
		return nil, fmt.Errorf("waiting until the line is ready: %w", err)
	}
	return endpoints, nil
}

func endpointsURL(admin, tenant string) string {
	return admin + "/v1/tenants/" + url.PathEscape(tenant) + "/endpoints"
}

// startWithin bounds how long something of the line may take to be there.
const startWithin = 30 * time.Second

// waitFor asks until the answer is 2xx.
func waitFor(ctx context.Context, client *http.Client, address string) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	var last error
	for {
		err := call(ctx, client, http.MethodGet, address, nil, nil)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), last)
		}
		last = err
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// call makes one request; into is what the answer's JSON is read into, if not
// nil.
func call(ctx context.Context, client *http.Client, method, to string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %.300s", resp.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}
