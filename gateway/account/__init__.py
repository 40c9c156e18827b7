"""What the pages under /account ask for, answered from the stores: consents, accesses, and who stands for whom."""
