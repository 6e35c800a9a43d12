"""embedkit in scikit-learn and PyTorch."""
