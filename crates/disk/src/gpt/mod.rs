//! GUID partition tables (UEFI specification 2.10, chapter 5).

pub mod table;
