mod exposition;
mod server;
