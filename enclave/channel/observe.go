package channel

// One record in sampled is timed, at a place where a session's buffers have their sizes.
const sampled, samplePlace = 64, 8

// sample begins to time the record with this number under its key, if it is one that is timed. The function it returns ends that.
func (c *Conn) sample(sent bool, count int) (took func()) {
	if c.observe == nil || count%sampled != samplePlace {
		return nothing
	}
	began := c.now()
	return func() { c.observe(RecordEvent{Sent: sent, Took: c.now().Sub(began)}) }
}

func nothing() {}

func (c *Conn) rekeyed(sent bool) {
	if c.observe != nil {
		c.observe(RecordEvent{Sent: sent, Rekeyed: true})
	}
}
