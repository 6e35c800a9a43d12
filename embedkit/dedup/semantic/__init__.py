"""SemDeDup: thins out training data where images are alike; deletes nothing."""
