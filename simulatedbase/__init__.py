"""A base that speaks the arklet protocol byte for byte as the Java one, and fails on demand.

No JVM and no jar is involved: a module "runs" as soon as its install time has passed, and a module URL is judged by its
form only. Asynchronous commands, which no controller uses, are refused; health is always given whole.
"""
