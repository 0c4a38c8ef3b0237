package app

import (
	"testing"

	"posthorn/consumer"
	"posthorn/internal/config"
)

func TestNoSessionThatMayBeConfiguredIsTooShortForAStage(t *testing.T) {
	if config.MinSessionTimeout < consumer.MinSessionTimeout {
		t.Errorf("%v may be configured, and a stage needs %v", config.MinSessionTimeout, consumer.MinSessionTimeout)
	}
}
