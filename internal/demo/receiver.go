package demo

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"posthorn/verify"
	"posthorn/webhook"
)

// receiver is the demo's customers: a server for http and one for https, where
// each endpoint has a path of its own.
type receiver struct {
	plain, secure net.Listener
	servers       []*http.Server
	ended         sync.WaitGroup
	routes        atomic.Pointer[map[string]*route]

	releaseOnce sync.Once
	letGo       chan struct{} // closed when the hanging endpoint is released
}

// route is an endpoint as its customer serves it.
type route struct {
	endpoint   *endpoint
	verifier   *verify.Verifier
	score      *score
	deliveries atomic.Int64 // begun, of a failing endpoint
}

// maxBody is the largest body that is read.
const maxBody = 1 << 20

// startReceiver starts both servers; they answer 404 until [receiver.serve].
// The certificate of the second is written to caFile.
func startReceiver(ctx context.Context, caFile string, log *slog.Logger) (_ *receiver, err error) {
	certificate, err := makeCertificate(caFile)
	if err != nil {
		return nil, err
	}
	r := &receiver{letGo: make(chan struct{})}
	r.routes.Store(&map[string]*route{})
	var lc net.ListenConfig
	if r.plain, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("starting the receiver: %w", err)
	}
	bare, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		r.plain.Close()
		return nil, fmt.Errorf("starting the receiver: %w", err)
	}
	r.secure = tls.NewListener(bare, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}})
	for _, l := range []net.Listener{r.plain, r.secure} {
		srv := &http.Server{
			Handler: r, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		}
		r.servers = append(r.servers, srv)
		r.ended.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				log.Error("receiver ended", "error", err)
			}
		})
	}
	return r, nil
}

func (r *receiver) close() {
	r.release()
	for _, srv := range r.servers {
		_ = srv.Close() // it has nobody to answer any more
	}
	r.ended.Wait()
}

// release lets the hanging endpoint answer, from now on.
func (r *receiver) release() { r.releaseOnce.Do(func() { close(r.letGo) }) }

func (r *receiver) released() bool {
	select {
	case <-r.letGo:
		return true
	default:
		return false
	}
}

// url is where an endpoint is served.
func (r *receiver) url(e *endpoint) string {
	if e.tls {
		return "https://" + r.secure.Addr().String() + "/" + e.name
	}
	return "http://" + r.plain.Addr().String() + "/" + e.name
}

// serve begins to receive for endpoints.
func (r *receiver) serve(endpoints []*endpoint, score *score) error {
	routes := make(map[string]*route, len(endpoints))
	for _, e := range endpoints {
		scheme, ok := verify.ForContract(e.contract)
		if !ok {
			return fmt.Errorf("verifying for endpoint %s: contract %s is not known", e.name, e.contract)
		}
		v, err := verify.New(scheme, []string{e.secret})
		if err != nil {
			return fmt.Errorf("verifying for endpoint %s: %w", e.name, err)
		}
		routes["/"+e.name] = &route{endpoint: e, verifier: v, score: score}
	}
	r.routes.Store(&routes)
	return nil
}

// ServeHTTP implements [http.Handler].
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	at := time.Now()
	to := (*r.routes.Load())[req.URL.Path]
	if to == nil {
		http.Error(w, "there is no such endpoint", http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		http.Error(w, "the body can't be read", http.StatusBadRequest)
		return
	}
	if err := to.verifier.Verify(req.Header, body); err != nil {
		to.score.refused()
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	id, err := deliveryOf(to.endpoint, req.Header, body)
	if err != nil {
		to.score.refused()
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	got := &sample{endpoint: to.endpoint, id: id, header: req.Header, body: body}
	number, ok := to.score.arrived(at, got)
	if !ok {
		http.Error(w, "this event was not subscribed to", http.StatusBadRequest)
		return
	}
	status := to.answer(req.Context(), number, r.letGo)
	if status == 0 {
		panic(http.ErrAbortHandler) // the sender has gone
	}
	to.score.answered(got, number, status)
	w.WriteHeader(status)
}

// answer returns the status to answer with, 0 if nobody waits for it any more.
func (t *route) answer(ctx context.Context, number int, letGo <-chan struct{}) int {
	switch t.endpoint.manner {
	case failing:
		if number == 0 && t.deliveries.Add(1)%failEvery == 0 {
			return http.StatusServiceUnavailable
		}
	case hanging:
		select {
		case <-letGo:
		case <-ctx.Done():
			return 0
		}
	}
	return http.StatusOK
}

// errNoID says that a request tells nothing by which its delivery is known.
var errNoID = errors.New("the request names neither its delivery nor its event")

// deliveryOf returns the delivery that a request makes, from where its contract
// names it. A contract that names none names the event.
func deliveryOf(e *endpoint, h http.Header, body []byte) (string, error) {
	for _, name := range []string{"Webhook-Id", "X-Webhook-Delivery-Id"} {
		if id := h.Get(name); strings.HasPrefix(id, webhook.DeliveryPrefix) {
			return id, nil
		}
	}
	var named struct {
		EventID string `json:"eventId"`
	}
	if err := json.Unmarshal(body, &named); err != nil || named.EventID == "" {
		return "", errNoID
	}
	return webhook.DeliveryID(eventSource, named.EventID, e.id), nil
}
