package operate

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var metricName = regexp.MustCompile(`tally_[a-z_]+`)

// TestShippedFiles holds the alert rules and the dashboard to the page: whatever they ask for is there, and
// each metric of the page is on the dashboard.
func TestShippedFiles(t *testing.T) {
	page := pageOf(t, filled())
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For string
				Annotations      map[string]string
			}
		}
	}
	raw, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, &rules); err != nil || len(rules.Groups) != 1 || len(rules.Groups[0].Rules) == 0 {
		t.Fatalf("%v, %+v", err, rules)
	}
	asked := map[string]bool{}
	for _, r := range rules.Groups[0].Rules {
		if r.Alert == "" || r.Annotations["summary"] == "" {
			t.Errorf("rule without name or summary: %+v", r)
		}
		for _, name := range metricName.FindAllString(r.Expr, -1) {
			asked[name] = true
		}
	}
	var board struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	raw, err = os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	shown := ""
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			shown += target.Expr + "\n"
			for _, name := range metricName.FindAllString(target.Expr, -1) {
				asked[name] = true
			}
		}
	}
	for name := range asked {
		if !strings.Contains(page, "\n"+name+"{") && !strings.Contains(page, "\n"+name+" ") {
			t.Errorf("%s is asked for and not on the page", name)
		}
	}
	for _, l := range strings.Split(page, "\n") {
		if f := strings.Fields(l); len(f) > 3 && f[1] == "TYPE" && !strings.Contains(shown, f[2]) {
			t.Errorf("%s is not on the dashboard", f[2])
		}
	}
}
