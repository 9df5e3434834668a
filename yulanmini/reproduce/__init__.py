"""The driver of `yulanmini reproduce`: strings together what each room offers anyone, and can be killed anywhere."""
