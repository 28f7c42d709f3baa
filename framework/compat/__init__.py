"""What the framework uses of other libraries that they do not document, and what it changes in them.

One module for each library. `CHECKED_ON` lists the versions on which its tests in `tests/compat` have passed; each of
these tests says what to do when it fails with a newer version. Nothing outside this package uses a private name.
"""
