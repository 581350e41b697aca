"""One file a step. A step that has been released is never changed: it says what that release did."""
