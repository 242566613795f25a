//! Commands too long to be kept in memory: judged by their beginning, and sent on by [`upload`](super::upload).

use std::sync::Arc;

use bytes::BytesMut;

use crate::backend::pool::Lease;
use crate::frontend::answers::plain_job;
use crate::frontend::client::{Client, Gone};
use crate::frontend::errors::{ClientError, Source};
use crate::frontend::query::{Failed, Job, Payload};
use crate::frontend::upload::{ClientGone, Sent, Upload};
use crate::net::Buffer;
use crate::protocol::command::Com;
use crate::protocol::errno;
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::query;
use crate::protocol::reply::Expect;
use crate::session::pin::PinReason;
use crate::sql::long::classify_beginning;

impl From<ClientGone> for Gone {
    fn from(_: ClientGone) -> Gone {
        Gone
    }
}

impl Client {
    /// Runs the command whose header stands at the front of `buffer`; what the client sent behind it is there afterwards.
    pub(super) async fn large_command(&mut self, buffer: &mut Buffer) -> Result<(), Gone> {
        let upload = Upload::begin(std::mem::take(buffer), &mut self.stream).await?;
        let packet = [&[0; HEADER_LEN], &upload.beginning[..]].concat();
        self.upload = Some(Box::new(upload));
        match packet.get(HEADER_LEN).copied().and_then(Com::from_byte) {
            Some(Com::Query) => self.large_query(&packet).await?,
            Some(Com::StmtExecute) => self.execute(&packet).await?,
            Some(Com::StmtBulkExecute) => self.execute_bulk(&packet).await?,
            Some(Com::StmtSendLongData) => self.long_data(&packet).await?,
            _ => {
                let text = "Got a packet bigger than this command can be; the connection is closed";
                return self.refuse(ClientError::new(Source::Client, errno::ER_NET_PACKET_TOO_LARGE, text).fatal()).await;
            }
        }
        // Of a command that was refused the rest is still to come.
        if let Some(mut upload) = self.upload.take() {
            upload.drain(&mut self.stream).await?;
            *buffer = upload.input;
        }
        Ok(())
    }

    async fn large_query(&mut self, packet: &[u8]) -> Result<(), Gone> {
        let Some(sql) = query::text(packet.get(HEADER_LEN..).unwrap_or(&[]), self.capabilities) else {
            return self.refuse(ClientError::of_server(errno::ER_MALFORMED_PACKET, "Malformed communication packet.")).await;
        };
        let (statement, tail) = classify_beginning(sql, self.session.lex);
        if let Some(upload) = &mut self.upload {
            upload.tail = Some(tail);
        }
        let statement = Arc::new(statement);
        let job = Job { payload: Payload::Upload, ..plain_job(Com::Query, Expect::Query, &statement, sql, &[]) };
        self.run_job(&job).await.map(|_| ())
    }

    /// The last of step 7 for a long command: `before` is what must go out before it.
    pub(super) async fn send_upload(
        &mut self,
        job: &Job<'_>,
        lease: &mut Lease,
        buffer: &mut Buffer,
        before: &[u8],
        execute_id: u32,
    ) -> Result<Result<(), Failed>, Gone> {
        let Some(mut upload) = self.upload.take() else { return Ok(Err(Failed::Answered)) };
        let mut head = BytesMut::new();
        let rewritten = match job.com {
            Com::Query => {
                head.extend_from_slice(&upload.beginning);
                Ok(())
            }
            _ => self.rewrite(job, &upload.beginning, execute_id, &mut head),
        };
        if let Err(e) = rewritten {
            self.upload = Some(upload);
            self.refuse(ClientError::new(Source::Client, errno::ER_WRONG_ARGUMENTS, format!("a malformed execution: {e}"))).await?;
            return Ok(Err(Failed::Answered));
        }
        if !before.is_empty()
            && let Err(e) = lease.stream.send_command(before).await
        {
            self.upload = Some(upload);
            return Ok(Err(self.broken(lease, &e)));
        }
        let sent = upload.send(head.to_vec(), &mut self.stream, &mut lease.stream, buffer).await?;
        if matches!(sent, Sent::Answered) {
            // The client listens when it has said all, and the answer is numbered behind that.
            Box::pin(upload.drain(&mut self.stream)).await?;
        }
        self.upload = Some(upload);
        match sent {
            Sent::Whole => Ok(Ok(())),
            Sent::Answered => {
                // It waits for the rest, or has closed: nobody else may have this connection.
                lease.tainted = true;
                Ok(Ok(()))
            }
            Sent::Server(error) => {
                let name = self.shared.name(lease.server);
                let text = format!("lost {name} while a long statement was sent there ({error}); it has not run");
                Ok(Err(Failed::Unknown(ClientError::new(Source::Server, errno::ER_NET_READ_ERROR, text))))
            }
        }
    }

    /// A long statement whose rest may have left something behind keeps its connection.
    pub(super) fn note_upload(&mut self) {
        if self.upload.as_ref().is_some_and(|upload| upload.tail.as_ref().is_some_and(|tail| !tail.is_inert())) {
            self.session.pins.set(PinReason::Unknown, true);
        }
    }
}
