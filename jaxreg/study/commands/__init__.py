"""What the commands do: compare, train, inspect, sample, counterfactual."""
