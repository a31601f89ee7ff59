package compare

import "slices"

// description compares two files that describe others, reference-values.json or manifest.json, and say the same of
// everything else: they follow from what they describe, if that differs, and are the cause themselves if not.
func (c *comparer) description(d Difference, a, b source, of string, differs bool) error {
	if differs || c.gaps {
		c.follows(d, "content", sizeText(a), sizeText(b), of)
		return nil
	}
	x, y, text, err := texts(a, b)
	if err != nil {
		return err
	}
	if text {
		d.Text = lines(x, y)
	}
	c.add(d, "content", c.digestText(a), c.digestText(b), "changed although nothing that it describes differs: edited by hand, or made by another tally")
	return nil
}

// hasValues says whether reference values are computed from an artefact; the spec says for which platforms.
func hasValues(name string) bool { return isMeasured(name) || name == "image.yaml" }

// anyDiffers says whether one of the artefacts compared before is not the same on both sides.
func (c *comparer) anyDiffers(which func(name string) bool) bool {
	return slices.ContainsFunc(c.r.Artifacts, func(r Artifact) bool { return r.Status != Match && which(r.Name) })
}
