"""The platform's Celery worker."""
