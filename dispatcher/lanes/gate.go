package lanes

// gate is the kind of slot that a lane's next POST takes; see the package
// comment. Lanes that could start but for their gate wait in the gate's ring.
type gate uint8

const (
	gateSmall gate = iota
	gateFirst
	gateBig
	gateExtra
	gateSick
	gates
)

// weights is the order in which gates get freed slots when all of them have
// lanes waiting: nobody is shut out for more than sixteen.
var weights = [16]gate{
	gateSmall, gateFirst, gateSmall, gateBig, gateSmall, gateFirst, gateSmall, gateExtra,
	gateSmall, gateFirst, gateSmall, gateBig, gateSmall, gateFirst, gateSmall, gateSick,
}

func (s *Set[T]) gateOf(l *lane[T]) gate {
	switch l.class {
	case sick:
		return gateSick
	case unproven:
		if l.inFlight() == 0 {
			return gateFirst
		}
		return gateExtra
	}
	if l.inFlight() < s.cfg.InitialWidth {
		return gateSmall
	}
	return gateBig
}

// open reports whether a slot may be given through the gate.
func (s *Set[T]) open(g gate) bool {
	if s.inFlight >= s.cfg.MaxInFlight {
		return false
	}
	suspects := s.byClass[unproven] + s.byClass[sick]
	switch g {
	case gateBig:
		return s.inFlight < s.cfg.MaxInFlight-s.cfg.MaxInFlight/8
	case gateFirst:
		return suspects < s.suspectCap
	case gateExtra:
		return suspects < s.cfg.MaxInFlight/8
	case gateSick:
		return suspects < s.suspectCap && s.byClass[sick] < s.sickCap
	}
	return true
}

// pick returns the gate that gets the next slot, if any lane may have one.
func (s *Set[T]) pick() (gate, bool) {
	if s.waiting() == 0 || s.inFlight >= s.cfg.MaxInFlight {
		return 0, false
	}
	if g := weights[s.served%uint(len(weights))]; s.rings[g].n > 0 && s.open(g) {
		return g, true
	}
	for g := range gates {
		if s.rings[g].n > 0 && s.open(g) {
			return g, true
		}
	}
	return 0, false
}

func (s *Set[T]) waiting() int {
	n := 0
	for g := range s.rings {
		n += s.rings[g].n
	}
	return n
}

// pump starts whatever may start and appends it to start.
func (s *Set[T]) pump(now instant, start []T) []T {
	for {
		g, ok := s.pick()
		if !ok {
			return start
		}
		s.served++
		l := s.rings[g].head
		l.leave(roleTurn) // settle puts it back at the end of the ring
		item, size := l.queue.pop()
		s.queued--
		s.queuedBytes -= size
		s.begin(l, now)
		s.settle(l, now)
		start = append(start, item)
	}
}

// begin takes a slot for the lane.
func (s *Set[T]) begin(l *lane[T], now instant) {
	l.begun(now)
	l.spendToken(now)
	s.inFlight++
	s.byClass[l.class]++
}

// settle brings everything that depends on a lane's state in line with it. Every
// change to a lane ends here; it may drop the lane.
func (s *Set[T]) settle(l *lane[T], now instant) {
	n, queued := l.inFlight(), l.queue.n
	if n == 0 {
		l.doubted, l.slow = false, false
		s.watched.clear(l)
	} else if l.alarms[timerWatch].place == 0 {
		s.look(l, now)
	}
	s.reclass(l)

	if queued == 0 {
		l.leave(roleQueued)
	} else if l.links[roleQueued].in == nil {
		l.lookAt = now + instant(s.cfg.QueueFor/4)
		l.join(&s.backlogged)
	}
	if queued > 0 && l.hanging {
		l.join(&s.stalled)
	} else {
		l.leave(roleStalled)
	}

	switch {
	case queued == 0 && n == 0:
		s.due.clear(l)
		s.idle(l, now)
	case queued == 0 || n >= l.effectiveWidth():
		l.width.saturated = l.width.saturated || queued > 0
		s.due.clear(l)
		l.leave(roleTurn)
	case l.dueAt() > now:
		s.due.set(l, l.dueAt())
		l.leave(roleTurn)
	default:
		s.due.clear(l)
		l.join(&s.rings[s.gateOf(l)])
	}
}

// look updates what time changes in a lane with POSTs in flight.
func (s *Set[T]) look(l *lane[T], now instant) {
	if next, ok := l.watch(&s.cfg, now); ok {
		s.watched.set(l, next)
	} else {
		s.watched.clear(l)
	}
}

func (s *Set[T]) reclass(l *lane[T]) {
	if c := l.classify(); c != l.class {
		s.byClass[l.class] -= l.inFlight()
		s.byClass[c] += l.inFlight()
		l.class = c
	}
}
