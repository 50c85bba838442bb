"""InstanceGM (Garg et al., WACV 2023) in PyTorch."""
