package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthorn/internal/config"
	"posthorn/internal/embedded"
	"posthorn/registry"
)

func TestTopicsAreAppliedThenCheckOut(t *testing.T) {
	c := config.Default()
	c.Kafka = broker(t)
	c.Topics.ReplicationFactor = 1
	c.Partitions.Deliveries = 3
	var out bytes.Buffer
	if err := TopicsCheck(t.Context(), c, &out); !errors.Is(err, ErrTopicsDiffer) || strings.Count(out.String(), "refuses  posthorn.") != 13 {
		t.Errorf("%v\n%s", err, &out)
	}
	out.Reset()
	if err := TopicsApply(t.Context(), c, &out); err != nil || !strings.Contains(out.String(), "posthorn.deliveries: created with 3 partitions") {
		t.Errorf("%v\n%s", err, &out)
	}
	for _, f := range []func() error{
		func() error { return TopicsCheck(t.Context(), c, &out) },
		func() error { return TopicsApply(t.Context(), c, &out) },
	} {
		out.Reset()
		if err := f(); err != nil || out.String() != "all 13 topics are as configured\n" {
			t.Errorf("%v\n%s", err, &out)
		}
	}
}

func TestADevelopmentBrokerIsCheckedAsADevelopmentLineMakesIt(t *testing.T) {
	b, err := embedded.StartKafka(embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c := config.Default() // of a cluster of three
	c.Kafka.Brokers = b.Addrs()
	var out bytes.Buffer
	if err := TopicsApply(t.Context(), c, &out); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := TopicsCheck(t.Context(), c, &out); err != nil || out.String() != "all 13 topics are as configured\n" {
		t.Errorf("%v\n%s", err, &out)
	}
	if c.Topics.ReplicationFactor != 3 {
		t.Error("the configuration was changed")
	}
}

func TestAKeysetIsNeverOverwritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keyset.json")
	var out bytes.Buffer
	if err := KeysetCreate(file, &out); err != nil || !strings.Contains(out.String(), file) {
		t.Fatalf("%v %s", err, &out)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if _, err := registry.OpenKeyset(file); err != nil {
		t.Errorf("the registry can't open it: %v", err)
	}
	if err := KeysetCreate(file, &out); err == nil {
		t.Error("it was overwritten")
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("it has changed, %v", err)
	}
}

func TestVersionNamesTheRelease(t *testing.T) {
	if v := Version("v1.2.3"); !strings.HasPrefix(v, "posthorn v1.2.3") || !strings.Contains(v, "go1.") {
		t.Error(v)
	}
}
