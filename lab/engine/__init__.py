"""An engine that speaks Pulumi's protocol to the unmodified SDK, for the lab and its tests only."""
