package source

import "posthorn/webhook"

// setTrace gives the event a trace context, unless it is malformed: then the
// event goes on without one, as W3C Trace Context has it.
func setTrace(ev *webhook.Event, traceparent, tracestate string) {
	if !validTraceparent(traceparent) {
		return
	}
	ev.Traceparent = traceparent
	if validTracestate(tracestate) {
		ev.Tracestate = tracestate
	}
}

// validTraceparent reports whether s has the form that W3C Trace Context
// (Recommendation 2021, section 3.2) gives a traceparent: version, trace ID,
// parent ID and flags in lower-case hex, neither ID all zero. A version above
// 00 may carry more behind another dash; ff is forbidden.
func validTraceparent(s string) bool {
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(s) < length || len(s) > 256 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version := s[:2]
	if !isHex(version) || version == "ff" || !isHex(s[3:35]) || !isHex(s[36:52]) || !isHex(s[53:55]) {
		return false
	}
	if zeros(s[3:35]) || zeros(s[36:52]) {
		return false
	}
	if len(s) > length && (version == "00" || s[length] != '-') {
		return false
	}
	return printable(s)
}

// validTracestate reports whether s can be carried on: 512 characters are what
// everyone has to propagate (W3C Trace Context, section 3.3.1.5), and all of
// them are printable ASCII. Its members are the tracing systems' business.
func validTracestate(s string) bool { return s != "" && len(s) <= 512 && printable(s) }

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func zeros(s string) bool {
	for i := range len(s) {
		if s[i] != '0' {
			return false
		}
	}
	return true
}
