"""The dashboard of `steelyard top`: pure pictures of a snapshot, and the thin Textual shell that shows them."""
