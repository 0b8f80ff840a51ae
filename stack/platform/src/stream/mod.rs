//! Kafka and RabbitMQ.

pub mod amqp;
pub mod features;
pub mod kafka;
pub mod relay;
