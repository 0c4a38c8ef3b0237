package embedded_test

import (
	"os"
	"testing"

	"posthorn/internal/clickhousetest"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Main(m)) }
