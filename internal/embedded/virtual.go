package embedded

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"net"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// virtualPort is a name on the virtual network, not a port of this machine.
const virtualPort = 9092

// Virtual is a broker on a network in memory. In a testing/synctest bubble its
// timers and its clients' run in virtual time, since waiting on its connections
// blocks durably, as waiting on a socket doesn't.
type Virtual struct {
	// Cluster is kfake itself, with its controls and its fault injection.
	*kfake.Cluster
	network kfake.VirtualNetwork
}

// TB is the part of testing.TB that [StartVirtual] needs; the package testing
// itself has no place in the program.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// StartVirtual starts a broker on a network of its own, in memory unless an
// option (kfake.DataDir) says otherwise, and closes it at the end of the test.
// A bubble ends only when its goroutines have: close the clients before it, for
// instance with t.Cleanup after this call.
func StartVirtual(t TB, opts ...kfake.Opt) *Virtual {
	t.Helper()
	v := new(Virtual)
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.Ports(virtualPort),
		kfake.ListenFn(v.network.Listen),
		kfake.DefaultNumPartitions(DefaultPartitions),
		// As in StartKafka: kfake's cleaner would take what it must not.
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": never, "log.retention.ms": "-1"}),
	}, opts...)...)
	if err != nil {
		t.Fatalf("starting virtual Kafka: %v", err)
	}
	v.Cluster = cluster
	t.Cleanup(cluster.Close)
	return v
}

// ClientOpts lets a client reach the broker.
func (v *Virtual) ClientOpts() []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(v.Addrs()...), kgo.Dialer(v.network.DialContext)}
}

// Addrs are the bootstrap addresses on the virtual network.
func (v *Virtual) Addrs() []string { return []string{"localhost:9092"} }

// DialContext dials the broker on its network.
func (v *Virtual) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return v.network.DialContext(ctx, network, address)
}

// StampAppendTime has a cluster stamp the records of a topic with its own time,
// as message.timestamp.type=LogAppendTime does on Kafka: kfake takes that
// configuration and doesn't heed it. The topic has to exist. Only in virtual time:
// kfake leaves the checksum as it was, which is right when its time is the
// client's to the millisecond.
func StampAppendTime(c *kfake.Cluster, topic string) {
	id := c.TopicInfo(topic).TopicID
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		produce := req.(*kmsg.ProduceRequest)
		for i := range produce.Topics {
			t := &produce.Topics[i]
			if t.Topic != topic && t.TopicID != id {
				continue
			}
			for j := range t.Partitions {
				stampAppendTime(t.Partitions[j].Records)
			}
		}
		return nil, nil, false
	})
}

// stampAppendTime sets the bit of a record batch by which kfake stamps it, and
// the checksum anew. The offsets are those of Kafka's record batch, version 2.
func stampAppendTime(batch []byte) {
	const checksum, attributes, appendTime = 17, 21, 0x0008
	if len(batch) < attributes+2 {
		return
	}
	batch[attributes+1] |= appendTime
	sum := crc32.Checksum(batch[attributes:], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(batch[checksum:], sum)
}
