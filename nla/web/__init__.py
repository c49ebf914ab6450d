"""A trained model over HTTP, with a page to try it: `nla serve`.

A request passes the middleware (`metrics`, `body_limit`, `guard`), is read into images (`request_images`), each is
decoded and its faces are cropped (`analysis`), the crops of all clients are classified together (`batcher`) by the
model in use (`live_model`), and class names are answered (`answers`).
"""
