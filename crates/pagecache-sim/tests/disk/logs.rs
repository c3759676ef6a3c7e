//! A little log, right or with one of five mistakes.
//!
//! The file is a header (salt, checksum) and records (length, checksum over salt and payload, payload). `reset` forgets all
//! records by a header with a new salt: the file is recycled in place.

use std::io;
use std::sync::Arc;

use pagecache::storage::{OpenMode, Storage, StorageFile, read_full, write_all};
use pagecache_sim::disk::SimDisk;

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    None,
    /// Never syncs the file.
    NoSync,
    /// Never syncs the directory.
    NoDirSync,
    /// Says yes before the sync; the next call makes up for it.
    EarlyAck,
    /// Keeps its length in a second file that is never synced.
    LengthNotSynced,
    /// Recycles without a salt and trusts whatever looks valid after the tail.
    StaleTail,
}

const HEADER: u64 = 12;
const RECORD: u64 = 8;
const PAYLOAD_MAX: usize = 4096;

pub struct Log {
    mistake: Mistake,
    disk: SimDisk,
    file: Arc<dyn StorageFile>,
    length_file: Option<Arc<dyn StorageFile>>,
    salt: u64,
    end: u64,
}

impl Log {
    /// Opens or creates the log; returns it with the records that it holds.
    pub fn open(disk: &SimDisk, mistake: Mistake) -> io::Result<(Log, Vec<Vec<u8>>)> {
        let (file, is_new) = open_or_create(disk, "log")?;
        let mut created = is_new;
        let mut length_file = None;
        if mistake == Mistake::LengthNotSynced {
            let (file, is_new) = open_or_create(disk, "length")?;
            created |= is_new;
            length_file = Some(file);
        }
        let mut log = Log { mistake, disk: disk.clone(), file, length_file, salt: 0, end: HEADER };
        let mut records = Vec::new();
        match log.read_header()? {
            Some(salt) => {
                log.salt = salt;
                records = log.scan()?;
            }
            None => log.reset()?,
        }
        if created && mistake != Mistake::NoDirSync {
            disk.sync_dir()?;
        }
        Ok((log, records))
    }

    pub fn append(&mut self, payload: &[u8]) -> io::Result<()> {
        if self.mistake == Mistake::EarlyAck {
            self.file.sync_data()?;
        }
        let mut record = (payload.len() as u32).to_le_bytes().to_vec();
        record.extend(self.checksum(payload).to_le_bytes());
        record.extend(payload);
        write_all(&*self.file, &record, self.end)?;
        self.end += record.len() as u64;
        self.finish()
    }

    /// Forgets all records.
    pub fn reset(&mut self) -> io::Result<()> {
        let salt = self.disk.entropy();
        self.salt = if self.mistake == Mistake::StaleTail { 0 } else { salt };
        let mut header = self.salt.to_le_bytes().to_vec();
        header.extend(crc32c::crc32c(&header).to_le_bytes());
        if self.mistake == Mistake::StaleTail {
            // The end is a record of length 0 in the place of the first one.
            header.extend([0; 8]);
        }
        write_all(&*self.file, &header, 0)?;
        self.end = HEADER;
        self.finish()
    }

    /// What stands between a write and its acknowledgement.
    fn finish(&mut self) -> io::Result<()> {
        if !matches!(self.mistake, Mistake::NoSync | Mistake::EarlyAck) {
            self.file.sync_data()?;
        }
        if let Some(file) = &self.length_file {
            write_all(&**file, &self.end.to_le_bytes(), 0)?;
        }
        Ok(())
    }

    fn read_header(&self) -> io::Result<Option<u64>> {
        let mut header = [0; HEADER as usize];
        let read = read_full(&*self.file, &mut header, 0)?;
        let (salt, checksum) = header.split_at(8);
        let valid = read == header.len() && crc32c::crc32c(salt).to_le_bytes() == checksum;
        Ok(valid.then(|| u64::from_le_bytes(salt.try_into().unwrap())))
    }

    fn scan(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut limit = u64::MAX;
        if let Some(file) = &self.length_file {
            let mut length = [0; 8];
            read_full(&**file, &mut length, 0)?;
            limit = u64::from_le_bytes(length);
        }
        let mut records = Vec::new();
        while self.end < limit {
            let Some(payload) = self.read_record()? else { break };
            self.end += RECORD + payload.len() as u64;
            records.push(payload);
        }
        Ok(records)
    }

    fn read_record(&self) -> io::Result<Option<Vec<u8>>> {
        let mut head = [0; RECORD as usize];
        if read_full(&*self.file, &mut head, self.end)? < head.len() {
            return Ok(None);
        }
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let (len, checksum) = (word(0) as usize, word(4));
        if len == 0 || len > PAYLOAD_MAX {
            return Ok(None);
        }
        let mut payload = vec![0; len];
        let read = read_full(&*self.file, &mut payload, self.end + RECORD)?;
        Ok((read == len && self.checksum(&payload) == checksum).then_some(payload))
    }

    fn checksum(&self, payload: &[u8]) -> u32 {
        let salted = crc32c::crc32c(&self.salt.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(salted, &(payload.len() as u32).to_le_bytes()), payload)
    }
}

fn open_or_create(disk: &SimDisk, name: &str) -> io::Result<(Arc<dyn StorageFile>, bool)> {
    match disk.open(name, OpenMode::ReadWrite) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((disk.open(name, OpenMode::CreateNew)?, true)),
        opened => Ok((opened?, false)),
    }
}
