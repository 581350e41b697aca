"""The tests, one folder a tier: unit, seams, integration, acceptance, house. CONTRIBUTING.md says what goes where."""
