"""What the commands do: compare, train, inspect, counterfactual."""
