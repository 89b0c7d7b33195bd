//! `flotilla.v1.Transactions`: identities of idempotent producers. Transactions themselves come later.

use crate::grpc::call::Changes;
use crate::grpc::{Api, status};
use flotilla_broker::admin;
use flotilla_proto::convert::Invalid;
use flotilla_proto::v1;
use flotilla_proto::v1::transactions_server::Transactions;
use flotilla_types::error::Describe;
use flotilla_types::{ProducerEpoch, ProducerId};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Transactions for Api {
    async fn init_producer(
        &self,
        request: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        let context = self.calls.context(&request);
        let wire = request.into_inner();
        if wire.transactional_id.is_some_and(|id| !id.is_empty()) {
            return Err(status::comes_later(
                "flotilla.v1.Transactions/InitProducer with a transactional_id",
                "leave it out for an idempotent producer",
            ));
        }
        let current = current(wire.producer_id, wire.producer_epoch)
            .map_err(|invalid| self.calls.refuse("InitProducer", &context, &invalid.describe()))?;
        let work = async {
            let (id, epoch) = self.broker.init_producer(&context, current).await?;
            Ok::<_, admin::Error>(v1::InitProducerResponse {
                producer_id: id.get() as i64,
                producer_epoch: epoch.get() as i64,
            })
        };
        self.calls.unary("InitProducer", &context, Changes::State, work).await
    }

    async fn add_to_transaction(
        &self,
        _: Request<v1::AddToTransactionRequest>,
    ) -> Result<Response<v1::AddToTransactionResponse>, Status> {
        Err(status::comes_later("flotilla.v1.Transactions/AddToTransaction", ""))
    }

    async fn end_transaction(
        &self,
        _: Request<v1::EndTransactionRequest>,
    ) -> Result<Response<v1::EndTransactionResponse>, Status> {
        Err(status::comes_later("flotilla.v1.Transactions/EndTransaction", ""))
    }

    async fn list_transactions(
        &self,
        _: Request<v1::ListTransactionsRequest>,
    ) -> Result<Response<v1::ListTransactionsResponse>, Status> {
        Err(status::comes_later("flotilla.v1.Transactions/ListTransactions", ""))
    }

    async fn get_transaction(
        &self,
        _: Request<v1::GetTransactionRequest>,
    ) -> Result<Response<v1::Transaction>, Status> {
        Err(status::comes_later("flotilla.v1.Transactions/GetTransaction", ""))
    }

    async fn abort_transaction(
        &self,
        _: Request<v1::AbortTransactionRequest>,
    ) -> Result<Response<v1::Transaction>, Status> {
        Err(status::comes_later("flotilla.v1.Transactions/AbortTransaction", ""))
    }
}

fn current(id: Option<i64>, epoch: Option<i64>) -> Result<Option<(ProducerId, ProducerEpoch)>, Invalid> {
    let number = |field, number: i64| {
        u64::try_from(number).map_err(|_| Invalid::new(field, format!("is {number}, expected at least 0")))
    };
    match (id, epoch) {
        (None, None) => Ok(None),
        (Some(id), Some(epoch)) => Ok(Some((
            ProducerId(number("producer_id", id)?),
            ProducerEpoch(number("producer_epoch", epoch)?),
        ))),
        _ => Err(Invalid::new("producer_id", "comes with producer_epoch, or neither of the two")),
    }
}
