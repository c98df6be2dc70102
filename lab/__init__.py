"""The lab: a real cluster, real istiod and real VMs on one machine, and an engine that runs the program on them."""
