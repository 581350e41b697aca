"""Mail that 250 was said to, on disk until every recipient is finished. Knows neither SMTP nor how a copy is made."""
