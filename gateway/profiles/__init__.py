"""What stores of known make do in their own way, one file a make; gateway.config.profiles reads them."""
