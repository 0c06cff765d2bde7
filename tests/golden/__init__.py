"""Files as earlier versions wrote them, and the laws that today's code reads them by."""
