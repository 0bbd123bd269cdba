"""What every method stands on: points, the subject model, interventions, the objective."""
